"""Pairs of film reviews, of one film or of two: no single text tells which."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path

from lra_bench.errors import UserError
from lra_bench.types import SPLITS, Progress, ProgressCallback, Split, ignore_progress


@dataclass(frozen=True, slots=True)
class FilmReview:
    """A review and what it is about.

    Args:
        id: Its name among the reviews, for example ``train-neg-7``.
        film: The film's name at IMDB.
        mood: ``neg`` or ``pos``.
        text: On one line.
    """

    id: str
    film: str
    mood: str
    text: str


# Two reviews, and 1 where they are of one film.
Match = tuple[FilmReview, FilmReview, int]


def make_pairs(
    reviews: Mapping[str, Sequence[FilmReview]],
    counts: Mapping[Split, int],
    seed: int,
    path: Path,
    progress: ProgressCallback = ignore_progress,
) -> dict[Split, list[Match]]:
    """Return the pairs of each split in their order.

    Args:
        reviews: Of ``train`` and ``test``.
        counts: How many pairs each split is to have, even numbers.
        seed: Of all order.
        path: What the reviews were read from, for the messages.
        progress: Told the pairs that have been made.

    Raises:
        UserError: So many pairs cannot be made.
    """
    pools = _pools(reviews, seed)
    total, done = sum(counts.values()), 0
    pairs: dict[Split, list[Match]] = {}
    for split in SPLITS:
        positives = _positives(pools[split], counts[split] // 2, seed, f"task.num_{split}", path)
        rights = exchanged(positives, seed)
        if rights is None:
            raise UserError(
                f"task.num_{split}={counts[split]}: the pairs of one film cannot be exchanged into "
                f"pairs of two films, for one film has more than half of those of one polarity; "
                f"ask for more, or for fewer"
            )
        matches = [(first, second, 1) for first, second in positives]
        matches += [(first, other, 0) for (first, _), other in zip(positives, rights, strict=True)]
        pairs[split] = sorted(
            matches, key=lambda match: _key(seed, "row", f"{match[2]}.0", match[0].id, match[1].id)
        )
        done += counts[split]
        progress(Progress("making pairs", done, total))
    return pairs


def _key(*parts: object) -> bytes:
    """Return what things are ordered by: the same on every machine, with every version."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).digest()


def _pools(reviews: Mapping[str, Sequence[FilmReview]], seed: int) -> dict[Split, list[FilmReview]]:
    """Divide the reviews so that no film and no text is in two splits."""
    copies = defaultdict(list)
    for review in (*reviews["train"], *reviews["test"]):
        copies[re.sub(r"[\W_]+", "", review.text.lower())].append(review)
    kept = {same[0].id for same in copies.values() if all(one.film == same[0].film for one in same)}
    of_training = {review.film for review in reviews["train"]}
    pools: dict[Split, list[FilmReview]] = {split: [] for split in SPLITS}
    pools["train"] = [review for review in reviews["train"] if review.id in kept]
    for review in reviews["test"]:
        if review.id in kept and review.film not in of_training:
            is_odd = _key(seed, "split", review.film)[0] % 2
            pools["validation" if is_odd else "test"].append(review)
    return pools


def _positives(
    reviews: Sequence[FilmReview], number: int, seed: int, option: str, path: Path
) -> list[tuple[FilmReview, FilmReview]]:
    """Return pairs of reviews of one film, from the films in turn.

    Raises:
        UserError: There are fewer.
    """
    films = defaultdict(list)
    for review in reviews:
        films[review.film].append(review)
    order = sorted(films, key=lambda film: _key(seed, "movie", film))
    turns = zip_longest(*(_of_one_film(films[film], seed) for film in order))
    pairs = list(islice((pair for turn in turns for pair in turn if pair is not None), number))
    if len(pairs) < number:
        raise UserError(
            f"{option}={2 * number} is too much: {path} gives at most {2 * len(pairs):,} pairs, "
            f"half of them of one film"
        )
    return pairs


def _of_one_film(
    reviews: Sequence[FilmReview], seed: int
) -> Iterator[tuple[FilmReview, FilmReview]]:
    """Yield all pairs, in rounds in which nobody plays twice, as in a tournament."""
    players = sorted(reviews, key=lambda review: _key(seed, "order", review.id))
    # The first stays on its seat, the others move on by one a round; an odd one out rests.
    seats = len(players) + len(players) % 2
    for moved in range(seats - 1):
        table = [0, *((seat - moved) % (seats - 1) + 1 for seat in range(seats - 1))]
        for seat in range(seats // 2):
            if max(table[seat], table[-1 - seat]) == len(players):
                continue
            first, second = players[table[seat]], players[table[-1 - seat]]
            is_left_first = _key(seed, "side", first.id, second.id)[0] % 2
            yield (first, second) if is_left_first else (second, first)


def exchanged(
    positives: Sequence[tuple[FilmReview, FilmReview]], seed: int
) -> list[FilmReview] | None:
    """Exchange the right reviews of one polarity so that no pair is of one film any more.

    Returns:
        A right review for each left one; None if that is impossible.
    """

    def fits(place: int, giver: int) -> bool:
        return positives[place][0].film != positives[giver][1].film

    rights = [second for _, second in positives]
    for mood in ("neg", "pos"):
        places = [at for at, (_, second) in enumerate(positives) if second.mood == mood]
        # Which of the places gives its review to each.
        givers = sorted(places, key=lambda at: _key(seed, "deal", at, positives[at][1].id))

        for at, place in enumerate(places):
            if fits(place, givers[at]):
                continue
            # The next with which a swap helps, and does no harm. There is one unless a film has
            # more than half of the places, when nothing helps.
            for step in range(1, len(places)):
                other = (at + step) % len(places)
                if fits(place, givers[other]) and fits(places[other], givers[at]):
                    givers[at], givers[other] = givers[other], givers[at]
                    break
            else:
                return None
        for place, giver in zip(places, givers, strict=True):
            rights[place] = positives[giver][1]
    return rights
