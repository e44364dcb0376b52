"""A photographer's library: what is known of each photo, kept in one SQLite file.

    folders ─▶ finding.py ─▶ identity.py (known by path, tail or pixels?) ─▶ rating.py (engine) ─▶ catalogue.py
                                                                                                    │
                                              bursts.py, table.py: views that can be made again ◀───┘

Only :mod:`aesedge.library.catalogue` writes SQL.
"""
