"""A recipe for your own words: answers checked, the recipe written, the commands that follow."""
