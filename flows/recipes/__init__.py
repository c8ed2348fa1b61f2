"""Recipes that ship with domainlm, one YAML a domain."""
