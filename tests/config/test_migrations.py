from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from config.migrations import draft, head, is_current, lacking, upgrade
from tests.config.postgres import Postgres


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """Two revisions, drafted from tables that grew."""
    folder = tmp_path / "versions"
    folder.mkdir()
    url = f"sqlite:///{tmp_path / 'drafts.sqlite3'}"
    draft(url, tables(), "the beginning", folder)
    draft(url, tables(sa.Column("phone", sa.String(20))), "phones", folder)
    return folder


def tables(*more: sa.Column[str]) -> sa.MetaData:
    metadata = sa.MetaData()
    sa.Table("person", metadata, sa.Column("name", sa.String(20), primary_key=True), *more)
    return metadata


def test_drafts_are_numbered_and_the_newest_is_the_head(versions: Path) -> None:
    assert sorted(path.name for path in versions.glob("*.py")) == ["0001_the_beginning.py", "0002_phones.py"]
    assert head(versions) == "0002"


def test_a_new_database_is_made_and_then_left_alone(versions: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'made.sqlite3'}"
    assert not is_current(url, versions)
    assert upgrade(url, tables(), versions)
    assert is_current(url, versions)
    assert not upgrade(url, tables(), versions)
    with sa.create_engine(url).connect() as connection:
        assert {column["name"] for column in sa.inspect(connection).get_columns("person")} == {
            "name",
            "phone",
        }


def test_a_database_of_an_older_release_is_brought_up_and_keeps_its_rows(
    versions: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'old.sqlite3'}"
    newer = versions / "0002_phones.py"
    kept = newer.read_text()
    newer.unlink()
    upgrade(url, tables(), versions)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("insert into person values ('Ana')"))
    newer.write_text(kept)
    assert upgrade(url, tables(), versions)
    with engine.connect() as connection:
        assert connection.execute(sa.text("select name, phone from person")).all() == [("Ana", None)]


def test_a_migration_that_fails_leaves_nothing_half_done(versions: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'failing.sqlite3'}"
    newer = versions / "0002_phones.py"
    newer.write_text(
        newer.read_text().replace("def downgrade", "    raise ValueError('half-way')\n\n\ndef downgrade")
    )
    with pytest.raises(ValueError, match="half-way"):
        upgrade(url, tables(), versions)
    assert sa.inspect(sa.create_engine(url)).get_table_names() == []


def test_what_the_migrations_lack_is_told(versions: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'compared.sqlite3'}"
    assert lacking(url, tables(sa.Column("phone", sa.String(20))), versions) == []
    (missing,) = lacking(
        url, tables(sa.Column("phone", sa.String(20)), sa.Column("room", sa.String(20))), versions
    )
    assert "room" in missing


def test_the_migrations_make_every_table_that_the_packages_declare() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.migration", "--check"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_on_postgresql_too(versions: Path, postgres: Postgres) -> None:
    url = postgres.new_database()
    # asyncio.run is not for a process whose loop is running, as this one's is.
    code = (
        "import sys; from pathlib import Path; from sqlalchemy import MetaData; from config.migrations import upgrade\n"
        "print([upgrade(sys.argv[1], MetaData(), Path(sys.argv[2])) for _ in range(2)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, url, str(versions)], check=False, capture_output=True, text=True
    )
    assert done.stdout == "[True, False]\n", done.stderr


def test_a_database_that_is_current_is_known_without_alembic(versions: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'current.sqlite3'}"
    upgrade(url, tables(), versions)
    code = (
        "import sys; from pathlib import Path; from sqlalchemy import MetaData; from config.migrations import upgrade\n"
        "print(upgrade(sys.argv[1], MetaData(), Path(sys.argv[2])), 'alembic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, url, str(versions)], check=True, capture_output=True, text=True
    )
    assert done.stdout == "False False\n"


def test_the_release_that_routes_is_come_to_and_gone_back_from_with_all_that_is_stored(
    tmp_path: Path,
) -> None:
    routing_rows_stay(f"sqlite:///{tmp_path / 'centre.sqlite3'}")


def test_and_so_on_postgresql(postgres: Postgres) -> None:
    routing_rows_stay(postgres.new_database())


def routing_rows_stay(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.config.routing_rows", url], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    up, back, again = json.loads(done.stdout)
    for told in (up, back, again):
        assert told["kept"] == [[["Ana"]], [[3]], [["Desk"]], [["Ready"]], [["heating"]], [["it drips"]]]
    assert up["refusals"] == [["c1", {"a": [110.0, "declined", 140.0]}], ["c2", {}]]
    assert up["contacts"] == [["default", 100.0, None]] * 2
    assert up["levels"] == [[1]]
    assert up["rules"] == [["thermea", 1, [["tag", "heat", "heating", 2.0, 1]]]]
    # What an older release cannot say, it is told in its own words.
    assert back["refusals"][0] == ["c1", {"a": 110.0}]
    assert back["refusals"][-1] == ["c5", {"a": 120.0}]
    assert back["rules"] == [["thermea", "error", "E 119", skill, 1.0] for skill in ("boiler", "wifi")]
    assert back["dispositions"] == [[None], [None], ["no_agent"], ["no_agent"], [None]]
    assert again["rules"][0][2] == [["error", "E 119", skill, 1.0, 1] for skill in ("boiler", "wifi")]
