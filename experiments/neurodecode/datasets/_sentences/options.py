"""What is accepted of a table of typed sentences and of its recordings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from neurodecode.contracts import Location
from neurodecode.datasets._neuromag.options import ReadOptions


class SentenceReadOptions(ReadOptions):
    """How sentences and their recordings are read."""

    recordings_folder: Annotated[
        str, Location(), Field(description="Folder of relative file paths; empty: the table's own")
    ] = ""
    columns: dict[str, str] = Field({}, description="Column here to its name in the table")
    typed_column: Annotated[
        str,
        Field(description="Column of Sentence rows with what was typed; rebuilt where it is empty"),
    ] = "typed"
    practice: Annotated[
        int,
        Field(ge=0, le=100, description="First sentences of every session that are left out"),
    ] = 0
    longest_s: Annotated[
        float,
        Field(gt=0, le=600.0, description="Sentences that took longer to type are left out"),
    ] = 60.0
    allow_mixed_sss: Annotated[
        bool, Field(description="Accept recordings with and without SSS")
    ] = False
    head_shift_mm: Annotated[
        float,
        Field(gt=0, description="Largest distance of head places between a subject's recordings"),
    ] = 25.0
