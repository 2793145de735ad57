"""The smallest useful bot with python-telegram-bot alone: `python plain_bot.py BASE_URL TOKEN`."""

import sys

from telegram import Update
from telegram.ext import ApplicationBuilder, ContextTypes, MessageHandler, filters


async def answer(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
    if update.message is not None and update.message.text is not None:
        await update.message.reply_text(update.message.text)


application = ApplicationBuilder().token(sys.argv[2]).base_url(f"{sys.argv[1]}/bot").build()
application.add_handler(MessageHandler(filters.TEXT, answer))
application.run_polling()
