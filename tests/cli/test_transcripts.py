"""What the commands print, word by word, and their exit codes."""

import pytest

from cli.transcript import FOLDER, WRITE, Story
from running import RUNNING, installed

pytestmark = RUNNING


@pytest.fixture(scope="module")
def site():
    """One that no other test has left anything in."""
    with installed() as made:
        yield made.start()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_the_story_goes_as_it_is_told(site, tmp_path, path):
    (tmp_path / "broken.yaml").write_text(site.policy(("level: user", "levell: user"), ("/minute", "/fortnight")))
    (tmp_path / "wider.yaml").write_text(site.policy(('["stock: read"]', '["stock: read", "invoice: read"]')))
    told = Story(site, tmp_path).play(path)
    if WRITE:
        path.write_text(told)
    assert told == path.read_text()
