"""What the commands print, word by word, and their exit codes."""

import pytest

from cli.transcript import FOLDER, WRITE, Story
from running import ADMINISTRATORS, APART, installed

pytestmark = APART
PACKED = """\
policy: acme
packs: [sod/tryton]
systems:
  erp: {kind: tryton, at: localhost, upstream: "http://127.0.0.1:8000", database: acme}
"""


@pytest.fixture(scope="module")
def site():
    """One that no other test has left anything in."""
    with installed(administrators=ADMINISTRATORS) as made:
        yield made.start()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_the_story_goes_as_it_is_told(site, folder, path):
    (folder / "broken.yaml").write_text(site.policy(("level: user", "levell: user"), ("/minute", "/fortnight")))
    (folder / "wider.yaml").write_text(site.policy(('["stock: read"]', '["stock: read", "invoice: read"]')))
    (folder / "packed.yaml").write_text(PACKED)
    (folder / "specs").mkdir(exist_ok=True)
    (folder / "specs" / site.spec.name).write_text(site.spec.read_text())
    told = Story(site, folder).play(path)
    if WRITE:
        path.write_text(told)
    assert told == path.read_text()
