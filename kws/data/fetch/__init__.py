"""Public data sets: their recipes, downloads that resume, archives unpacked safely."""
