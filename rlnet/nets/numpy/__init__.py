"""Small networks in numpy with hand-written backward passes, equal to those of torch and faster."""
