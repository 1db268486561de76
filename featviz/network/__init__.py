"""What a network is: loading, layers, read points, recording. Knows nothing of pictures."""
