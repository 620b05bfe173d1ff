"""A role's TOML settings file: read into a checked model, and written back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hejin_trust.errors import HejinError
from hejin_trust.faults import field_fault, syntax_fault
from hejin_trust.files import replace_file

Settings = TypeVar("Settings", bound=BaseModel)


class SettingsError(HejinError):
    """A settings file is missing or says something that has no meaning."""

    code = "bad-settings"
    exit_code = 2


def read_settings(path: Path, model: type[Settings]) -> Settings:
    """Return the settings in the TOML file at `path`; SettingsError names the field."""
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as reason:
        raise SettingsError(
            f"{path} cannot be read ({reason.strerror}): run init first, or name another --home",
            f"无法读取 {path}（{reason.strerror}）：请先执行 init，或用 --home 指定其他目录",
        ) from reason
    except ValidationError as reason:
        said = field_fault(reason)
        raise SettingsError(f"{path}: {said.en}", f"{path}：{said.zh}") from reason
    except (ValueError, RecursionError) as reason:
        said = syntax_fault(reason)
        raise SettingsError(
            f"{path} is not valid TOML: {said.en}", f"{path} 不是有效的 TOML：{said.zh}"
        ) from reason


def typed_settings(model: type[Settings], **typed: str) -> Settings:
    """Return the settings that were typed as options; SettingsError names the one that is wrong."""
    try:
        return model(**typed)
    except ValidationError as reason:
        said = field_fault(reason)
        raise SettingsError(
            f"An option makes no sense: {said.en}.", f"选项有误：{said.zh}。"
        ) from reason


def write_settings(path: Path, settings: BaseModel) -> None:
    """Store the settings as TOML: scalars first, then one table a mapping."""
    values = settings.model_dump(mode="json", exclude_none=True)
    lines = [
        f"{key} = {_value(value)}" for key, value in values.items() if not isinstance(value, dict)
    ]
    for key, table in values.items():
        if isinstance(table, dict):
            lines += ["", f"[{key}]", *_table(table)]
    replace_file(path, ("\n".join(lines) + "\n").encode(), mode=0o600)


def _table(table: Mapping[str, object]) -> list[str]:
    return [f"{json.dumps(key)} = {_value(value)}" for key, value in table.items()]


def _value(value: object) -> str:
    # TOML's basic strings, numbers, booleans and arrays are written as JSON writes them.
    return json.dumps(value, ensure_ascii=False)
