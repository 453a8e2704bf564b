"""Recordings of one's own: take by take, or words found in files and cut out."""
