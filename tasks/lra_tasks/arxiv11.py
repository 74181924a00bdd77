"""arXiv-11: which of eleven fields is a paper from?

Source: He et al., IEEE Access 2019; as a task for long documents, arXiv 2007.14062.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError
from lra_bench.types import SPLITS, DataInfo, ProgressCallback, Split
from lra_tasks import _arxiv
from lra_tasks._same_text import key_of
from lra_tasks._spool import Spool, spooling
from lra_tasks._symbols_task import SymbolsTask
from lra_tasks.cached_task import Source, Writer

# Raised when the same files and options would give other ids.
PREPARATION_VERSION = 1
NEVER_SEEN = "the official files were never seen by us: nothing tells these from them"


class Arxiv11(SymbolsTask[Path]):
    """Papers as text, from a folder a class or from tables; the classes are in alphabetical order.

    What the server prints on first pages (``arXiv:... [cs.AI]``) names the class; it is taken out.
    Of each class a tenth is for validation and a tenth for test, by the SHA-256 of the names of
    the files (of the texts, where a table has them).

    Args:
        data_dir: Folder that holds ``arxiv11``, or an archive of it.
        cache_dir: Folder of prepared data.
        tokens: ``bpe``, pieces of a vocabulary, or ``bytes``.
        max_length: Papers are cut to this [tokens].
        vocab_size: Ids with ``bpe``, padding and separator among them.
        vocabulary: A file, or a folder of prepared data that has one; empty to learn it.

    Raises:
        UserError: A number is out of range, or the vocabulary does not fit.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        tokens: str = "bpe",
        max_length: int = 4_096,
        vocab_size: int = 4_096,
        vocabulary: str = "",
    ) -> None:
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.set_symbols(
            "arxiv11",
            tokens,
            vocab_size,
            vocabulary,
            max_length,
            num_classes=len(_arxiv.CLASSES),
            metrics=("accuracy", "f1_macro"),
        )

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        return DataInfo(
            origin=f"arXiv papers of eleven classes, {_arxiv.URL} ({NEVER_SEEN})",
            terms=_arxiv.TERMS,
        )

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {"version": PREPARATION_VERSION, **self.symbol_options()}

    def source(self) -> Source[Path] | None:
        """See `CachedTask.source`."""
        return _arxiv.find(self.data_dir, self.cache_dir)

    def fetch(self) -> None:
        """See `CachedTask.fetch`."""
        raise UserError(
            f"there is no folder {_arxiv.FOLDER} in {self.data_dir}, and no archive of it "
            f"({', '.join(_arxiv.ARCHIVES)}); put a folder a class ({', '.join(_arxiv.CLASSES)}) "
            f"of .txt files there, or tables with text and label; the papers are at {_arxiv.URL}"
        )

    def encode(self, source: Source[Path], writer: Writer, progress: ProgressCallback) -> DataInfo:
        """See `CachedTask.encode`."""
        self.check_library()
        seen: Counter[str] = Counter()
        with spooling(self.cache_dir) as spool:
            names, labels, keys = self._read(source.files, spool, seen, progress)
            if not names:
                raise UserError(f"{source.files} holds no papers; {_arxiv.REMEDY}")
            divided = _arxiv.divided(names, labels)
            order = sorted(range(len(names)), key=names.__getitem__)
            rows: dict[Split, list[tuple[int, int]]] = {
                split: [(at, labels[at]) for at in order if divided[at] == split]
                for split in SPLITS
            }
            details = self.write_texts(writer, spool, rows, progress)
            baselines = self.bag_of_words(spool, rows, progress)
        learned = {keys[at] for at, split in enumerate(divided) if split != "test"}
        again = sum(keys[at] in learned for at, split in enumerate(divided) if split == "test")
        counts = tuple(labels.count(number) for number in range(len(_arxiv.CLASSES)))
        return DataInfo(
            source="arXiv-11",
            warning=_warning(counts),
            details={
                "papers_that_named_their_class": f"{seen['stamps']:,}, taken out",
                "empty_papers_left_out": f"{seen['empty']:,}",
                "repeated_papers_left_out": f"{seen['repeated']:,}",
                "papers_not_utf_8": f"{seen['not UTF-8']:,}, other bytes replaced",
                "test_texts_also_in_training_or_validation": f"{again:,}",
                **details,
            },
            baselines=baselines,
        )

    def _read(
        self, path: Path, spool: Spool, seen: Counter[str], progress: ProgressCallback
    ) -> tuple[list[str], list[int], list[bytes]]:
        """Keep the texts, and return names, classes and what tells the same texts.

        Raises:
            UserError: A file cannot be read, or two papers have one name.
        """
        names, labels, keys = [], [], []
        known: dict[str, bytes] = {}
        for paper in _arxiv.read(path, progress, seen=seen):
            text, was_stamped = _arxiv.without_stamp(paper.text)
            seen["stamps"] += was_stamped
            key = key_of(text)
            if paper.name in known:
                if known[paper.name] != key:
                    raise UserError(f"{path} has two papers {paper.name}; {_arxiv.REMEDY}")
                seen["repeated"] += 1
                continue
            known[paper.name] = key
            spool.add(text)
            names.append(paper.name)
            labels.append(paper.label)
            keys.append(key)
        return names, labels, keys


def _warning(counts: tuple[int, ...]) -> str:
    """Say that nobody knows whether these are the official papers, or that they are not."""
    if counts == _arxiv.OFFICIAL_COUNTS:
        return (
            f"{NEVER_SEEN}, but for the number of papers of each class, which is the official one"
        )
    return (
        f"{NEVER_SEEN}; {sum(counts):,} papers, the official set is said to have "
        f"{sum(_arxiv.OFFICIAL_COUNTS):,}"
    )
