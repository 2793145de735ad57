"""Bolt, as the door through which everything from Slack comes in, in both modes.

https://docs.slack.dev/tools/bolt-python
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from slack_bolt.adapter.aiohttp import to_aiohttp_response
from slack_bolt.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.context.async_context import AsyncBoltContext
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse
from slack_sdk.signature import SignatureVerifier

from roost.channels.slack_rich import Json
from roost.channels.slack_web import wire

log = logging.getLogger(__name__)

Take = Callable[[Json], Awaitable[int]]
"""Make one delivery safe; returns the HTTP status to answer with. 200 acknowledges it."""


class Front:
    """Answers after `take` has, never before. `user` and `bot` are the ids of the bot, known after it has logged in."""

    def __init__(self, channel: str, secret: str, take: Take) -> None:
        self.user = self.bot = ""
        self._secret = secret

        # Bolt goes by the names of arguments, and stumbles over `self`.
        async def authorize() -> AuthorizeResult:
            return AuthorizeResult(
                enterprise_id=None, team_id=None, bot_user_id=self.user, bot_id=self.bot, bot_token="unused"
            )

        async def everything(body: Json, context: AsyncBoltContext) -> BoltResponse:
            context["taken"] = True
            return BoltResponse(status=await take(body), body="")

        self._app = AsyncApp(
            name=channel,
            logger=wire,
            signing_secret=secret or "unused",
            authorize=authorize,
            process_before_response=True,
            request_verification_enabled=False,  # `verify` has done it, and Socket Mode needs none
        )
        self._app.use(everything)

    async def deliver(self, payload: Json) -> bool:
        """Take what came through a socket; returns whether it may be acknowledged."""
        answer = await self._dispatch(lambda: AsyncBoltRequest(mode="socket_mode", body=payload))
        return bool(answer.status == 200)

    def verify(self, request: web.Request, body: bytes) -> bool:
        """https://docs.slack.dev/authentication/verifying-requests-from-slack: not older than five minutes."""
        try:
            return SignatureVerifier(self._secret).is_valid_request(body, request.headers)
        except (ValueError, TypeError, OverflowError):
            return False

    async def answer(self, request: web.Request) -> web.Response:
        # Slack writes UTF-8, whatever the request says of itself.
        body = (await request.read()).decode(errors="replace")
        return await to_aiohttp_response(
            await self._dispatch(
                lambda: AsyncBoltRequest(body=body, query=request.query_string, headers=dict(request.headers))
            )
        )

    async def _dispatch(self, make: Callable[[], AsyncBoltRequest]) -> BoltResponse:
        """What Bolt stumbles over, before it reaches `take`, makes no sense. It is left out, or it would come again."""
        taken = False
        try:
            request = make()
            answer = await self._app.async_dispatch(request)
            taken = answer.status != 500 or bool(request.context.get("taken"))
        except Exception as error:
            log.debug("Bolt stumbles over a delivery.", exc_info=error)
        if not taken:
            log.warning("Slack sent something that Bolt cannot read. I leave it out.")
            return BoltResponse(status=200, body="")
        return answer
