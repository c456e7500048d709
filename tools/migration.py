"""Drafts the next migration from what the packages' tables have become: ``make migration MESSAGE="what changed"``.

With ``--check`` it only says what the migrations lack, and fails if that is anything.
"""

import importlib
import sys
import tempfile
from pathlib import Path

from config import migrations
from config.database import metadata

ROOT = Path(__file__).parent.parent
PACKAGES = ("config", "sip_trunk", "media", "agent_presence", "kb_portal", "pbx")


def load_tables() -> None:
    """Import every module that declares tables, so that ``metadata`` knows them all."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text("utf-8")
            if path.name != "database.py" and "metadata" in source and "Table(" in source:
                importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def main() -> None:
    load_tables()
    with tempfile.TemporaryDirectory() as folder:
        # Compared with an empty database brought to the newest revision: nobody's data is read.
        url = f"sqlite:///{folder}/draft.sqlite3"
        if sys.argv[1:] == ["--check"]:
            lacking = migrations.lacking(url, metadata)
            sys.exit("\n".join(["The migrations lack:", *lacking]) if lacking else None)
        migrations.draft(url, metadata, " ".join(sys.argv[1:]) or "tables")
    newest = max((migrations.FOLDER / "versions").glob("[0-9]*.py"))
    print(f"Drafted {newest.relative_to(ROOT)}: read it before you keep it.")


if __name__ == "__main__":
    main()
