"""Amounts of money, in a file of the image's /usr."""
import decimal
import os


def amount(text):
    return decimal.Decimal(text)


def written(value):
    return f"{value:.2f} {os.environ['CURRENCY']}"
