"""The parts of the page, a file each: what is asked for, which calls of the API answer it, and which template shows that."""
