"""The static site of an atlas, written from its store alone, and a small server for it."""
