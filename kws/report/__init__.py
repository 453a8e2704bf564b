"""Pictures (PNG, PDF, SVG) of all measurements: one module for each kind, in one style."""
