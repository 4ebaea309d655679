"""Break BSON documents at random: the codecs must agree on what each is.

A codec that reads past its bytes shows under ASan; `tests/unit` runs a few
thousand of these, this as many as there is time for.

usage: fuzz_bson.py SECONDS [SEED]
"""

import pathlib
import random
import sys
import time
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "unit"))

from bson_cases import CODECS, NAMES, RICH, mutated, outcome


def main(duration: str, seed: str = "") -> None:
    """Stop with the bytes in hand at the first disagreement."""
    seed = seed or str(random.randrange(2**32))
    print(f"{', '.join(NAMES)}; seed {seed}", flush=True)
    warnings.simplefilter("ignore")  # re's, about patterns it is given
    rng = random.Random(seed)
    data = CODECS[0].encode(RICH)
    corpus = [data]
    end = time.monotonic() + float(duration)
    tried = good = 0
    while time.monotonic() < end:
        broken = mutated(rng.choice(corpus), rng)
        results = [outcome(codec, broken) for codec in CODECS]
        if any(result != results[0] for result in results):
            sys.exit(f"disagreement about {broken!r}:\n{results}")
        tried += 1
        if results[0][0] == "value":  # broken, yet BSON: break it further
            good += 1
            if len(corpus) < 1000:
                corpus.append(broken)
            elif len(broken) < 4 * len(data):
                corpus[rng.randrange(1, 1000)] = broken
    print(f"{tried} documents, {good} of them BSON still")


if __name__ == "__main__":
    main(*sys.argv[1:])
