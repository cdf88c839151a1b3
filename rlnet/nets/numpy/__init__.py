"""Hand-written numpy twins of small networks: forward, backward and acting."""
