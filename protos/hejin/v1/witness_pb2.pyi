from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStandingRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStandingResponse(_message.Message):
    __slots__ = ("logs", "charter_serial")
    LOGS_FIELD_NUMBER: _ClassVar[int]
    CHARTER_SERIAL_FIELD_NUMBER: _ClassVar[int]
    logs: _containers.RepeatedCompositeFieldContainer[LogStanding]
    charter_serial: int
    def __init__(self, logs: _Optional[_Iterable[_Union[LogStanding, _Mapping]]] = ..., charter_serial: _Optional[int] = ...) -> None: ...

class LogStanding(_message.Message):
    __slots__ = ("origin", "size", "root")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    origin: str
    size: int
    root: bytes
    def __init__(self, origin: _Optional[str] = ..., size: _Optional[int] = ..., root: _Optional[bytes] = ...) -> None: ...

class AddEntriesRequest(_message.Message):
    __slots__ = ("updates",)
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    updates: _containers.RepeatedCompositeFieldContainer[LogUpdate]
    def __init__(self, updates: _Optional[_Iterable[_Union[LogUpdate, _Mapping]]] = ...) -> None: ...

class LogUpdate(_message.Message):
    __slots__ = ("origin", "old_size", "entries", "proof", "checkpoint")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    OLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    origin: str
    old_size: int
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: str
    def __init__(self, origin: _Optional[str] = ..., old_size: _Optional[int] = ..., entries: _Optional[_Iterable[bytes]] = ..., proof: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[str] = ...) -> None: ...

class AddEntriesResponse(_message.Message):
    __slots__ = ("cosignatures", "charter_serial")
    COSIGNATURES_FIELD_NUMBER: _ClassVar[int]
    CHARTER_SERIAL_FIELD_NUMBER: _ClassVar[int]
    cosignatures: _containers.RepeatedScalarFieldContainer[str]
    charter_serial: int
    def __init__(self, cosignatures: _Optional[_Iterable[str]] = ..., charter_serial: _Optional[int] = ...) -> None: ...

class GetEntriesRequest(_message.Message):
    __slots__ = ("origin", "start")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    origin: str
    start: int
    def __init__(self, origin: _Optional[str] = ..., start: _Optional[int] = ...) -> None: ...

class GetEntriesResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, entries: _Optional[_Iterable[bytes]] = ...) -> None: ...
