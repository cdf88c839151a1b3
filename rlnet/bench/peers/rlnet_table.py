"""rlnet's tree search of an enumerated game: the networks are evaluated in every position, once for each search."""

from functools import partial

from peers.rlnet_search import Turns

make = partial(Turns, whole=True)
