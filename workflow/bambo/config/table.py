"""What all tables of the config are made of: the strict base and the types of keys."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Strategy = Literal["hybrid", "variance", "balance", "uniform", "layer", "model"]

# Marks a setting that determines a candidate's scores; the others say how or where they are computed.
IDENTITY: dict[str, Any] = {"identity": True}


class Table(BaseModel):
    # Strict, since YAML has types of its own: the text "10" where a number belongs is a mistake.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
