"""Answers of the tools, whose schemas agents read."""

from __future__ import annotations

from pydantic import BaseModel, Field


class RankedPassage(BaseModel):
    """Passage with its score."""

    index: int = Field(description="position in the given list, from 0")
    score: float = Field(description="probability of being relevant, from 0 to 1")
    text: str | None = Field(None, description="the passage; null if texts were not wanted")


class RankedPassages(BaseModel):
    """Passages, most relevant first."""

    passages: list[RankedPassage]
    answerable: float | None = Field(
        None, description="probability that any of the passages answers the query; null if unknown"
    )
    shortened: list[int] = Field(description="indices of passages whose end was not read")
    warnings: list[str] = Field(description="texts that the model can hardly read")


class ScoredLabel(BaseModel):
    """Label with its score."""

    label: str
    score: float = Field(description="probability that the label applies, from 0 to 1")


class Labels(BaseModel):
    """Labels, most probable first."""

    labels: list[ScoredLabel]
    is_shortened: bool = Field(description="the end of the text was not read")


class ChosenTool(BaseModel):
    """Tool with its score."""

    name: str
    score: float = Field(description="probability that the tool fits the request, from 0 to 1")


class ChosenTools(BaseModel):
    """Tools, best first."""

    tools: list[ChosenTool]
