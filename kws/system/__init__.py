"""What the operating system provides: files, caches, processes, native libraries, the terminal."""
