"""mail-devel, an IMAP and SMTP server, that brings mail to those whom the envelope names, and tells who waits for it.

By itself it goes by the headers, where Delta Chat hides the recipients; its SMTP side, which has a thread and a loop of
its own, neither wakes the IMAP side nor may wait for its locks: a mail that comes while the mailbox is read is refused;
what comes in the moment before somebody begins to wait (IDLE) is not told; and it puts changed flags among the answers
to FETCH, which it may, but Delta Chat takes them for an answer without a size, and waits a minute. It takes
mail-devel's own options: `python -m servers.mail --imap-port 1143 …`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from email.message import Message
from typing import Any

from mail_devel import __main__ as mail_devel
from mail_devel import service
from mail_devel.mailbox import TestMailboxDict
from pymap.backend.dict.mailbox import MailboxData
from pymap.parsing.message import AppendMessage
from pymap.parsing.response import UntaggedResponse
from pymap.parsing.response.specials import FetchResponse
from pymap.selected import SelectedMailbox


class Delivery(TestMailboxDict):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._loop = asyncio.get_running_loop()

    async def append(self, message: Message, flags: frozenset[Any], mailbox: str = "INBOX") -> None:
        recipients = str(message["X-RcptTo"]).split(", ")
        for header in ("X-Peer", "X-MailFrom", "X-RcptTo"):
            del message[header]
        mail = AppendMessage(literal=message.as_bytes(), when=datetime.now().astimezone(), flag_set=flags)
        delivered = asyncio.run_coroutine_threadsafe(self._deliver(recipients, mail, mailbox), self._loop)
        await asyncio.wrap_future(delivered)

    async def _deliver(self, recipients: list[str], mail: AppendMessage, mailbox: str) -> None:
        for recipient in recipients:
            account = await self.get(recipient)
            await (await account.get_mailbox(mailbox)).append(mail)


WAIT = MailboxData.update_selected


async def tell(self: Any, selected: Any, *, wait_on: Any = None) -> Any:
    untold = selected.mod_sequence != self._mod_sequences.highest
    return await WAIT(self, selected, wait_on=None if untold else wait_on)


COMPARE = SelectedMailbox._compare


def compare(self: Any, *states: Any) -> Iterable[UntaggedResponse]:
    return (one for one in COMPARE(self, *states) if not isinstance(one, FetchResponse))


if __name__ == "__main__":
    service.TestMailboxDict = Delivery  # type: ignore[misc]
    SelectedMailbox._compare = compare  # type: ignore[method-assign]
    MailboxData.update_selected = tell  # type: ignore[method-assign]
    mail_devel.main()
