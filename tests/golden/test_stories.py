"""The stories in stories/: each must go as it is written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.story import Story

STORIES = sorted((Path(__file__).parent / "stories").glob("*.txt"))


def told(story: Story, text: str) -> str:
    """The story with what happens now; comments and commands stay as they are."""
    blocks = []
    for block in text.strip().split("\n\n"):
        head, _, _ = block.partition("\n----")
        commands = [line for line in head.splitlines() if not line.startswith("#")]
        happened = story.play(commands) if commands else []
        blocks.append("\n".join([head, "----", *happened]) if commands else head)
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path, tmp_path: Path, rewrite: bool) -> None:
    story = Story(tmp_path)
    try:
        found = told(story, path.read_text())
    finally:
        story.close()
    if rewrite:
        path.write_text(found)
    assert found == path.read_text()
