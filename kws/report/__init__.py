"""Pictures (PNG, PDF, SVG) of everything that is measured: a file for each kind, one style."""
