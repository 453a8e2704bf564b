"""Your own recordings: made take by take, or cut from files."""
