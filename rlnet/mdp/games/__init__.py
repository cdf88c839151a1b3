"""Two-player zero-sum games as models in the mover's view: values, best responses, exploitability.

A state is a position as the player who moves sees it, a reward what that player gets, and an outcome's `sign` is −1
where the other player moves next. Both players share one policy π(a|s); the first one moves in those of
`start`. Then

    V*(s) = max_a E[R + sign·γ·V*(S')]   (negamax),   V^π(s) = Σ_a π(a|s) E[R + sign·γ·V^π(S')]   (self-play).
"""
