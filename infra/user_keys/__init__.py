"""The keys of users: encryption of the events about a user, the keys in Redis, and their copy in the archive.

The events of the streams ``user-…`` are encrypted with a key of the user. Whoever destroys the key makes these events
unreadable wherever they are stored, and the hash chains, which cover the encrypted states, stay valid.
"""
