"""Cache image embeddings and KV states, keyed by content.

    keys.py        what makes two results the same one: keys
    entry_file.py  one result as a file that cannot be misread
    disk_store.py  a folder of such files, shared by processes (locks.py, part_file.py), within a budget
                   (lru_index.py; size_limit.py reads "2GB" and "5%")
    embeddings.py  image embeddings in memory, over a disk store

A cache never fails a photo: what cannot be kept or read back is computed again.
"""

from aesedge.cache.disk_store import DiskStore, open_store
from aesedge.cache.embeddings import EmbeddingCache, Hit
from aesedge.cache.entry_file import Entry
from aesedge.cache.keys import embeddings_key, kv_key, pixels_digest
from aesedge.cache.lru_index import EntryInfo
from aesedge.cache.size_limit import parse_budget

__all__ = [
    "DiskStore",
    "EmbeddingCache",
    "Entry",
    "EntryInfo",
    "Hit",
    "embeddings_key",
    "kv_key",
    "open_store",
    "parse_budget",
    "pixels_digest",
]
