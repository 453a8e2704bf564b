"""What the operating system gives: files, caches, processes, native libraries, the terminal."""
