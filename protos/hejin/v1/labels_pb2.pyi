from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ("definition",)
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    definition: str
    def __init__(self, definition: _Optional[str] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("definition", "periods")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    PERIODS_FIELD_NUMBER: _ClassVar[int]
    definition: bytes
    periods: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, definition: _Optional[bytes] = ..., periods: _Optional[_Iterable[str]] = ...) -> None: ...

class MatchRequest(_message.Message):
    __slots__ = ("question", "points", "entry", "proof")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    question: bytes
    points: bytes
    entry: bytes
    proof: str
    def __init__(self, question: _Optional[bytes] = ..., points: _Optional[bytes] = ..., entry: _Optional[bytes] = ..., proof: _Optional[str] = ...) -> None: ...

class MatchResponse(_message.Message):
    __slots__ = ("answer", "points", "items")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    answer: bytes
    points: bytes
    items: bytes
    def __init__(self, answer: _Optional[bytes] = ..., points: _Optional[bytes] = ..., items: _Optional[bytes] = ...) -> None: ...
