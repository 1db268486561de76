"""What a picture is: color, spectrum, parameterizations, transforms. Knows nothing of networks."""
