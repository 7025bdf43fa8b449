"""The public functions, each with its registration: backends, fake, gradient."""
