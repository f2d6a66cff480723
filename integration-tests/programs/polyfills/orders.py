#!/usr/bin/python3
"""Orders from standard input, into a database and onto standard output: an ordinary program for Python in the place of which CPython for WASI runs."""
import argparse
import csv
import os
import pathlib
import sqlite3
import sys
from collections import namedtuple

sys.path.append("/usr/share/orders")
import money

Order = namedtuple("Order", "item count price")
parser = argparse.ArgumentParser()
parser.add_argument("--sort", choices=Order._fields, default="item")
options = parser.parse_args()

database = pathlib.Path(os.environ["PWD"], "orders.db")
with sqlite3.connect(database) as db:
    db.execute("create table orders (item text, count integer, price text)")
    db.executemany("insert into orders values (:item, :count, :price)", csv.DictReader(sys.stdin))
    orders = [Order(*row) for row in db.execute(f"select * from orders order by {options.sort} desc")]
for order in orders:
    print(order.item, money.written(order.count * money.amount(order.price)))
total = sum(order.count * money.amount(order.price) for order in orders)
print("total", money.written(total), "of", len(orders), "in", *(p.name for p in database.parent.iterdir()))
