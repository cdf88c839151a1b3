"""Token MDPs: a prompt, then one token at a time, and a verifiable reward for the finished completion."""
