"""The embedding engine: rows in, rows with vectors out, every text and image paid for once.

Inputs are packed over rows into full batches and carried to the endpoint by several threads. What
comes back is taken up on the bundle's own thread, which also counts. While all requests are under
way, as many batches again stand ready, so that a slow sink never keeps the endpoint waiting. Then
`process` waits, which holds the reader back.

Apart from `transform` because the engine knows nothing of Beam, and runs without it.
"""

from __future__ import annotations

import math
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from vecferry.budget import OVER_BUDGET, ledger_of
from vecferry.errors import FatalError, GivenUp, JobError, TerminalError, TransientError, redact
from vecferry.halt import Halt
from vecferry.retry import CLOCK, Clock
from vecferry.rows import DELETE, INSERT, Change, Reject
from vecferry.run.giving_up import STILL_SECONDS
from vecferry.steps import Counts, Emitted, Stamp, StepContext, Transformer
from vecferry.transforms.embed.caller import Caller, Fate, Outcome
from vecferry.transforms.embed.endpoints.base import Content, Image, PoisonError, Vector
from vecferry.transforms.embed.images.content import ImageSource
from vecferry.transforms.embed.long import (
    MARGIN,
    estimate_tokens,
    is_long,
    mean_vector,
    pieces_of,
)
from vecferry.transforms.embed.messages import Message, Nudge
from vecferry.transforms.embed.outbox import Input, Limits, Outbox
from vecferry.transforms.embed.recall import Recall
from vecferry.transforms.embed.rows import Row, Split, Waiter, Waiting
from vecferry.transforms.embed.settings import EmbedSettings
from vecferry.transforms.embed.shared import shared_of, text_key
from vecferry.transforms.embed.text import input_maker
from vecferry.waits import WAITS

if TYPE_CHECKING:
    from vecferry.transforms.embed.estimate import InputCounter
    from vecferry.transforms.embed.images.engine import Images
    from vecferry.transforms.embed.images.load import HasFiles, Loaded
    from vecferry.transforms.embed.images.messages import Load

BUNDLE_SECONDS = 300.0
"""What a bundle of an endless job waits for an endpoint before it is replayed."""
CHECK_SECONDS = 10.0
MOST_HELD = 128 << 20
"""Bytes of rows and images that a bundle holds before it takes no more rows."""
LEAST_WINDOW = 4096
"""Plain rows that may wait at once, where the batches under way allow no more anyway."""


class Embedder(Transformer):
    """Adds vector columns to rows; an `Operator`.

    Plain rows leave as their vectors come. From the first change on (a row kind other than ``+I``,
    or a version) rows leave in the order in which they arrived. A delete passes as it is.
    """

    def __init__(
        self,
        settings: EmbedSettings,
        connection: HasFiles | None,
        context: StepContext,
        clock: Clock = CLOCK,
    ) -> None:
        self.counts = Counts()
        self._settings, self._context, self._clock = settings, context, clock
        self._columns = [
            (column.embedding_column_name, input_maker(column, settings))
            for column in settings.embedding_columns
        ]
        self._shared = shared_of(settings, context, clock)
        self._halt, self._abandoned = Halt(), False
        self._done: SimpleQueue[Message] = SimpleQueue()
        in_flight = settings.endpoint_spec.in_flight or context.in_flight()
        deadline = _deadline(settings, context)
        caller = self._make_caller(deadline)
        limits = Limits.of(settings)
        self._outbox = Outbox(limits, self._shared, caller, in_flight, self.counts, self._done)
        self._images = self._open_images(connection, deadline, in_flight)
        self._limit = settings.most_tokens
        self._window = 4 * in_flight * settings.batch_size
        self._order: deque[Row] = deque()
        self._ready: list[Emitted] = []
        self._ordered = False
        self._inside = self._held = 0
        context.state.giving_up.tell(self._give_up)

    def _open_images(
        self, connection: HasFiles | None, deadline: float, in_flight: int
    ) -> Images[Waiter] | None:
        if not self._settings.takes_images:
            return None
        from vecferry.transforms.embed.images.engine import Images
        from vecferry.transforms.embed.images.load import ImageLoader

        load = ImageLoader(
            self._settings.image_spec,
            self._shared.image_vector,
            connection,
            self._context,
            deadline=deadline,
            halt=self._halt,
            clock=self._clock,
        )
        return Images(load, in_flight, self.counts, self._done.put)

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """Takes a row; gives the rows that are ready. Waits while the endpoint is behind."""
        row = Row(change, stamp)
        if self._ordered or change.kind != INSERT or change.version is not None:
            self._keep_order(row)
        self._inside += 1
        self._held += row.held
        if change.kind == DELETE:
            self._settle(row, change)
        else:
            self._take(row)
        while not self._done.empty():
            self._harvest()
        if self._inside >= self._window or self._outbox.full or self._full:
            self._make_room()
        ready, self._ready = self._ready, []
        return ready

    def finish(self) -> list[Emitted]:
        """Sends what is left and waits for everything; gives the rows still inside."""
        self._drain()
        self._shared.endpoint.settle()
        ready, self._ready = self._ready, []
        self._ordered = False
        return ready

    def close(self) -> None:
        """Ends this bundle's threads; connections and cache stay for the next."""
        self._halt.close()
        self._context.state.giving_up.forget(self._give_up)
        if self._images is not None:
            self._images.close()
        self._outbox.close()

    def recall(self, changes: list[Change]) -> list[Change | Reject | None]:
        """See `vecferry.steps.Transformer`; a vector comes from memory or from the vector cache."""
        return Recall(self._columns, self._settings, self._shared, self._context).rows(changes)

    @classmethod
    def estimator(cls, settings: EmbedSettings) -> InputCounter:
        """Counts texts and images in place of sending them."""
        from vecferry.transforms.embed.estimate import InputCounter

        return InputCounter(settings)

    def check(self) -> None:
        """Makes one real call with a short text; raises JobError unless it gives a good vector."""
        self._shared.check_store()
        self.embed_query("vecferry")

    def reach(self) -> None:
        """Connects to endpoint and vector cache and leaves; else raises JobError. Costs nothing."""
        self._shared.check_store()
        try:
            self._shared.endpoint.reach()
        except (TransientError, TerminalError) as e:
            raise JobError(
                f"step {self._context.step!r}: {e}: check endpoint, network and proxy"
            ) from e

    def embed_query(self, query: str | bytes) -> Vector:
        """The vector of one text or image, float32 of shape (dimension,); raises JobError."""
        content: Content | Vector | Exception
        if isinstance(query, str):
            content = query
        else:
            if self._images is None:
                raise JobError(
                    f"step {self._context.step!r} embeds no images: only texts; give a text"
                )
            content = self._images.one(query)
        if isinstance(content, str | Image):
            caller = self._make_caller(CHECK_SECONDS, queries=True)
            outcome = caller([content])
            fate = outcome.error or outcome.fates[0]
        else:
            fate = content
        if isinstance(fate, Exception):
            where = f"step {self._context.step!r}: "
            raise JobError(f"{where}{str(fate).removeprefix(where)}") from fate
        return fate  # type: ignore[no-any-return]

    def take_batch(self, batch: list[Input], outcome: Outcome) -> None:
        """Gives the rows of a batch their vectors; raises what failed it."""
        for one, fate in self._outbox.settle(batch, outcome):
            if isinstance(fate, PoisonError) and isinstance(one.content, str):
                self._take_refused(one.content, one.rows, fate)
            else:
                self._arrive(one.rows, fate)

    def _take_refused(self, text: str, rows: Waiting, fault: PoisonError) -> None:
        """Rejects rows whose text was refused, or cuts the text if its length may be the reason."""
        lengths, tokens = self._shared.learned.lengths, estimate_tokens(text)
        if not fault.sent or not lengths.may_exceed(tokens, fault):
            self._arrive(rows, fault)
            return
        rejects = self._settings.over_limit == "reject"
        if fault.long or rejects:
            lengths.exceed(tokens)
            if fault.tokens is not None and fault.tokens < tokens:
                lengths.named = max(fault.tokens, lengths.served)
        if rejects:
            self._arrive(rows, fault)
            return
        limit = lengths.most_for(tokens) if fault.long else None
        limit = limit or int(math.ceil(tokens / 2) / MARGIN) + 1
        for row, name in rows:
            self._cut(row, name, text, limit, refused=None if fault.long else tokens)

    def take_vector(self, content: Content, vector: Vector | None) -> None:
        """Gives the rows that wait for an input a vector that comes from elsewhere."""
        rows = self._outbox.landed(content, vector)
        if vector is not None:
            self._arrive(rows, vector)

    def take_looked_up(self, inputs: list[Input], vectors: list[Vector | None]) -> None:
        """Gives the rows of inputs the vectors that the vector cache has."""
        for rows, vector in self._outbox.looked_up(inputs, vectors):
            row, name = rows[0]
            if len(rows) == 1 and type(row) is Row and row.missing == 1 and row.item is None:
                row.vectors[name] = vector  # as `_arrive` would, for a row of one text
                row.missing = 0
                self._complete(row)
            else:
                self._arrive(rows, vector)

    def take_image(self, load: Load[Waiter], result: Loaded) -> None:
        """Sends an image, or gives its rows what there is; raises what ends the bundle."""
        if self._images is not None:
            self._images.landed(load, result)
        if isinstance(result, Image):
            for row, name in load.rows:
                self._outbox.want(result, row, name, result.key, looked_up=True)
        elif isinstance(result, GivenUp) or (
            isinstance(result, TerminalError) and not isinstance(result, FatalError)
        ):
            self._arrive(load.rows, result)
        elif isinstance(result, Exception):
            raise result
        else:
            self.counts.add("cache-hits", len(load.rows))
            self._arrive(load.rows, result.vector)

    def _harvest(self) -> None:
        """Waits for a message, and does what follows from it."""
        if not self._halt.given_up:
            self._done.get().apply(self)
            return
        try:
            message = self._done.get(timeout=self._patience)
        except Empty:
            self._abandon()
            return
        if not self._abandoned:
            message.apply(self)

    def _give_up(self) -> None:
        """Called on another thread once an interrupted run waits for no server that is away."""
        self._halt.give_up()
        self._done.put(Nudge())

    @property
    def _patience(self) -> float:
        """How many seconds an interrupted run waits for an answer."""
        return max(STILL_SECONDS, 2 * WAITS.longest(self._context.run, self._what))

    def _abandon(self) -> None:
        """Leaves unfinished what waits for an answer that does not come."""
        self._abandoned = True
        waiting = self._outbox.abandon()
        if self._images is not None:
            waiting += self._images.abandon()
        why = GivenUp(f"{self._what}: the run was interrupted before an answer came")
        for rows in waiting:
            self._arrive(rows, why)

    @property
    def _loading(self) -> bool:
        return self._images is not None and self._images.busy

    @property
    def _full(self) -> bool:
        """Whether rows and images hold all the memory that they may, or enough are loaded."""
        held = self._held + self._outbox.held
        if self._images is None:
            return held > MOST_HELD
        return held + self._images.held > MOST_HELD or self._images.full

    def _make_caller(self, deadline: float | None, *, queries: bool = False) -> Caller:
        endpoint = self._shared.endpoint
        if queries:
            endpoint = self._shared.query_endpoint.for_queries()
        return Caller(
            endpoint,
            self._shared.pacer,
            ledger_of(self._context),
            what=self._what,
            deadline=deadline,
            halt=self._halt,
            learned=self._shared.learned,
            where=redact(self._settings.endpoint_spec.url or self._settings.shown_model),
            run=self._context.run,
            clock=self._clock,
            price=self._settings.price,
        )

    @property
    def _what(self) -> str:
        return f"step {self._context.step!r}: embedding with {self._settings.shown_model}"

    def _keep_order(self, row: Row) -> None:
        if not self._ordered:
            self._drain()  # plain rows that came before may not be overtaken
            self._ordered = True
        self._order.append(row)

    def _take(self, row: Row) -> None:
        """Finds the vectors of a row, or lets it wait for them."""
        if self._abandoned:
            self._settle(row, GivenUp("the run was interrupted"))
            return
        try:
            texts = [(name, make(row.change)) for name, make in self._columns]
        except TerminalError:
            texts = self._fit(row)
            if row.item is not None:
                return
        for name, text in texts:
            if not text:
                row.vectors[name] = None
                if not self._settings.skip_empty_value:
                    self._empty(row, name)
                    if row.item is not None:
                        return
        row.missing = 1  # not done before all columns were looked at
        for name, text in texts:
            if text:
                self._want(row, name, text)
        row.missing -= 1
        if not row.missing and row.item is None:
            self._complete(row)

    def _fit(self, row: Row) -> list[tuple[str, Any]]:
        """The texts and images of a row in which one is at fault, without that one."""
        texts: list[tuple[str, Any]] = []
        for name, make in self._columns:
            try:
                texts.append((name, make(row.change)))
            except TerminalError as e:
                self._fail(row, name, e.reason, str(e))
        return texts

    def _empty(self, row: Row, name: str) -> None:
        what = self._settings.input_type_of(name)
        message = (
            f"the {what} for {name!r} is empty, as every source column is null or empty: "
            "skipEmptyValue lets such rows pass without a vector"
        )
        self._fail(row, name, f"empty-{what}", message)

    def _fail(self, row: Row, name: str, reason: str, message: str) -> None:
        """Rejects a row for the fault of one column.

        A row that goes on without that vector waits for its other vectors first.
        """
        reject = self._context.reject(reason, message, row=row.change, without=(name,))
        if reason == OVER_BUDGET:
            reject.instead = None  # not a fault of the row, which comes again with budget left
        row.vectors[name] = None
        if reject.instead is None or reject.instead.kind == DELETE:
            if row.item is None:
                self._settle(row, reject)
        elif row.fault is None:
            row.fault = reject

    def _complete(self, row: Row) -> None:
        """Lets a row go on with the vectors that it has got."""
        change = row.change.with_columns(row.vectors)
        if row.fault is None:
            self._settle(row, change)
        else:
            failed = [name for name, vector in row.vectors.items() if vector is None]
            row.fault.instead = self._context.on_reject.of(change, failed)
            self._settle(row, row.fault)

    def _want(self, row: Row, name: str, text: str | ImageSource) -> None:
        row.missing += 1
        if isinstance(text, ImageSource):
            assert self._images is not None
            self._want_image(self._images, text, row, name)
        elif (limit := self._most_for(text)) is not None:
            self._want_long(row, name, text, limit)
        else:
            self._find(row, name, text)

    def _most_for(self, text: str) -> int | None:
        """The tokens to which a text must be cut; None if nothing says that it is too long."""
        limit = self._limit
        if limit is not None and not (len(text) > limit and is_long(text, limit)):
            limit = None
        lengths = self._shared.learned.lengths
        if (lengths.refused or lengths.named) is None or len(text) <= lengths.served:
            return limit
        learned = lengths.most_for(estimate_tokens(text))
        return limit if learned is None else min(learned, limit or learned)

    def _want_image(self, images: Images[Waiter], source: ImageSource, row: Row, name: str) -> None:
        """Finds the vector of an image that was loaded before, or has the image loaded."""
        known = images.known(source)
        if isinstance(known, TerminalError):
            self._arrive([(row, name)], known)
            return
        if known is not None:
            vector = self._shared.cache.get(known)
            if vector is not None:
                self.counts.add("cache-hits")
                self._arrive([(row, name)], vector)
                return
            if self._outbox.join(Image(known), row, name):
                return
        images.want(source, row, name)

    def _want_long(self, row: Row, name: str, text: str, limit: int) -> None:
        """What `overLimit` says of a text that seems too long for its model."""
        over = self._settings.over_limit
        if over == "reject":  # the server decides, but its neighbours are kept out of it
            self._find(row, name, text, alone=True)
            return
        self._cut(row, name, text, limit)

    def _cut(
        self, row: Waiter, name: str, text: str, limit: int, *, refused: int | None = None
    ) -> None:
        """Truncates or splits a text for a row, as `overLimit` says.

        If the text was `refused` without a word of its length, all pieces of it are asked for. A
        text that is refused for what it says must not lose these words.
        """
        first = self._settings.over_limit == "truncate"
        pieces = pieces_of(text, limit)
        if isinstance(row, Row):
            self.counts.add("texts-truncated" if first else "texts-split")
        if first and refused is None:
            self._find(row, name, pieces[0])
            return
        split = Split(row, name, pieces, first=first, refused=refused)
        for i, piece in enumerate(pieces):
            self._find(split, str(i), piece)

    def _find(self, row: Waiter, name: str, text: str, *, alone: bool = False) -> None:
        key = text_key(text)
        vector = self._shared.cache.get(key)
        if vector is None:
            self._outbox.want(text, row, name, key, alone=alone)
        else:
            self.counts.add("cache-hits")
            self._arrive([(row, name)], vector)

    def _give_piece(self, split: Split, place: int, fate: Fate) -> None:
        above: Waiting = [(split.row, split.name)]
        if isinstance(fate, TerminalError | GivenUp):
            self._arrive(above, fate)
            return
        split.vectors[place] = fate
        split.missing -= 1
        if not split.missing:
            vectors = [vector for vector in split.vectors if vector is not None]
            if split.refused is not None:
                self._shared.learned.lengths.exceed(split.refused)
            whole = vectors[0] if split.first else mean_vector(vectors, split.weights)
            self._arrive(above, whole)

    def _make_room(self) -> None:
        limit = self._window if self._ordered else max(self._window, LEAST_WINDOW)
        while self._outbox.full or self._inside >= limit or self._full:
            if self._outbox.busy or self._loading:
                self._harvest()
            else:
                self._outbox.flush()  # all that is inside waits for inputs of an unfilled batch

    def _drain(self) -> None:
        while self._loading:
            self._harvest()
        self._outbox.flush()
        while self._outbox.busy:
            self._harvest()
            self._outbox.flush()

    def _arrive(self, rows: Waiting, fate: Fate) -> None:
        """Gives the rows that wait for a text its vector, or its fault."""
        for row, name in rows:
            if isinstance(row, Split):
                self._give_piece(row, int(name), fate)
            else:
                self._give(row, name, fate)

    def _give(self, row: Row, name: str, fate: Fate) -> None:
        if row.item is not None or name in row.vectors:  # another piece of its text has failed
            return
        if isinstance(fate, GivenUp):
            self._settle(row, fate)
            return
        if isinstance(fate, TerminalError):
            self._fail(row, name, fate.reason, str(fate))
            if row.item is not None:
                return
        else:
            row.vectors[name] = fate
        row.missing -= 1
        if not row.missing:
            self._complete(row)

    def _settle(self, row: Row, item: Change | Reject | GivenUp) -> None:
        """Lets `item` leave for a row, in its turn where order is kept."""
        row.item = item
        if not self._ordered:
            self._leave(row, item)
            return
        order = self._order
        while order and (ready := order[0].item) is not None:
            self._leave(order.popleft(), ready)

    def _leave(self, row: Row, item: Change | Reject | GivenUp) -> None:
        self._inside -= 1
        self._held -= row.held
        if isinstance(item, GivenUp):
            self.counts.add("rows-unfinished")
            return
        self._ready.append((item, row.stamp))


def _deadline(settings: EmbedSettings, context: StepContext) -> float:
    if settings.retry_deadline_seconds is not None:
        return settings.retry_deadline_seconds
    return BUNDLE_SECONDS if context.retry_deadline is None else context.retry_deadline
