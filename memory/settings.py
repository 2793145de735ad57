"""`[memory]` when it says `use = "window"`."""

from __future__ import annotations

from dataclasses import dataclass

from roost.contracts import Action, MemoryConfig
from roost.keys import key
from roost.memory.store import Fsync


@dataclass(frozen=True, slots=True)
class WindowConfig(MemoryConfig):
    """The keys of `[memory]` when it says `use = "window"`."""

    high: float = key(1.0, help="The share of the token budget that the window fills before it slides.")
    low: float = key(0.3, help="The share of the token budget that is left of the window when it slides or is folded.")
    compact_turns: int = key(200, help="Turns in the window's file that make a compaction due; 0 for never.", least=0)
    compact_tokens: int = key(
        0, help="Tokens in the window that make a compaction due; 0 for nine tenths of what it holds.", least=0
    )
    compact_idle: float = key(
        3600.0, help="Seconds of silence in a place that make a compaction due; 0 for never.", least=0
    )
    compact_keep: int = key(20, help="Recent turns that a compaction leaves as they are, or fewer: see low.", least=2)
    compact_action: Action = key(
        "extract",
        help="What older turns become: an extract of the sentences that matter, which needs no brain, or a summary by "
        "the brain, worth it from models of some billion parameters on. One that is no good becomes an extract.",
    )
    compact_room: int = key(256, help="Tokens the summary may have, within an eighth of the context.", least=32)
    open_files: int = key(64, help="Conversations kept open at a time; the others are opened when needed.", least=1)
    fsync: Fsync = key(
        "always",
        help='"always" survives a power cut; "os" is faster and may lose the last seconds before one.',
    )
    vectors: bool = key(
        False,
        help="Find what was said in other words as well; English, takes 40 MB of memory and the extra 'vectors'.",
    )
