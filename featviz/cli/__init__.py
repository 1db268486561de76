"""The commands: each reads arguments, makes one call, prints. Results on stdout, talk on stderr."""
