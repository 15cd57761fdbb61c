"""The CAs' limits and the names that fail, asked and written in the transactions of services and workflows."""
