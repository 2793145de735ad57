"""Translate: `/translate French Where is the station?`, or as a reply to a message: `/translate French`."""

from roost import Message, command


@command
async def translate(bot, message: Message, language: str, text: str = "") -> str:
    """Translate a text, or the message you reply to."""
    text = text or (message.quote.text if message.quote else "")
    if not text:
        return "Translate what? Write it behind the language, or reply to it."
    return await bot.think(message, f"Translate what you are given into {language}. Answer with nothing else.", text)
