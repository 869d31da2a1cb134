"""The tasks of a product with a symmetric matrix of which one triangle is stored, and their order.

P is cut into squares of tiles. Square (I, J), I > J, is read once and used twice:
K_I += P_IJ H_J and K_J += P_IJᵀ H_I. Two squares that share neither I nor J may be worked on at once. So the
squares are listed in the rounds of a round-robin tournament, and each task waits until those before it in the
list that share its I or J are finished: a sum has one order, whatever the number of threads.
"""

from __future__ import annotations

import numpy as np

from kalmandp.engines.cpu.covariance.tiling import FIRST

#: Weights of a side of a square, at least and at most, in steps of the largest tile. The largest squares,
#: 512 KB of float64, stay in the L2 cache while they are used twice; smaller ones read more of H and K.
#: A block has about eight squares in a row at least: half as many may be worked on at once.
SMALLEST, LARGEST, STEP, IN_A_ROW = 128, 256, 64, 8

# columns of ``pairs``: places I ≥ J in ``squares``, tasks on I and on J that come before
I, J, BEFORE_I, BEFORE_J = range(4)
# columns of ``squares``: tiles T0 ≤ t < T1
T0, T1 = range(2)


def make_rounds(rows: np.ndarray, T: int) -> tuple[np.ndarray, np.ndarray]:
    """``squares`` (S, 2) and ``pairs`` (tasks, 4) for the tile rows of a `Tiling`, int64."""
    firsts = np.unique(rows[:, FIRST]).tolist()
    squares: list[tuple[int, int]] = []
    games: list[list[tuple[int, int]]] = []  # by rounds, of all blocks
    for first, stop in zip(firsts, [*firsts[1:], len(rows)], strict=True):
        begin, tiles = len(squares), _side((stop - first) * T) // T
        squares += [(t, min(t + tiles, stop)) for t in range(first, stop, tiles)]
        for number, players in enumerate(_tournament(len(squares) - begin)):
            if number == len(games):
                games.append([])
            games[number] += [(begin + i, begin + j) for i, j in players]
    played = [0] * len(squares)
    pairs = []
    for i, j in (game for games_of_round in games for game in games_of_round):
        pairs.append((i, j, played[i], played[j]))
        played[i] += 1
        played[j] += i != j
    return np.array(squares, dtype=np.int64), np.array(pairs, dtype=np.int64)


def _side(n: int) -> int:
    """The side of the squares of a block of n weights."""
    return min(max(-(-n // (STEP * IN_A_ROW)) * STEP, SMALLEST), LARGEST)


def _tournament(n: int) -> list[list[tuple[int, int]]]:
    """Rounds of pairs (i, j), i > j: first everybody alone, (i, i), then everybody with everybody."""
    even = n + n % 2
    rounds = [[(i, i) for i in range(n)]]
    circle = list(range(even))  # the first stays, the others move on by one place
    for _ in range(even - 1):
        met = [(circle[k], circle[-1 - k]) for k in range(even // 2)]
        rounds.append([(max(pair), min(pair)) for pair in met if max(pair) < n])
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return rounds


def squares_from(rows: np.ndarray, home: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """``squares`` and ``pairs`` of the tiles in the rows from ``home`` on, for tasks that do not add up.

    Parameters
    ----------
    rows : of a `Tiling`;  home : a row;  side : tiles of a square's side, at most
    """
    squares: list[tuple[int, int]] = []
    pairs, t = [], 0
    while t < len(rows):
        block = rows[t : t + side, FIRST] == rows[t, FIRST]
        stop = t + int(block.sum())
        squares.append((t, min(stop, home) if t < home else stop))
        t = squares[-1][1]
    for i, (t0, _) in enumerate(squares):
        if t0 >= home:
            pairs += [(i, j, 0, 0) for j in range(i + 1) if squares[j][0] >= rows[t0, FIRST]]
    return np.array(squares, dtype=np.int64).reshape(-1, 2), np.array(pairs, dtype=np.int64).reshape(-1, 4)
