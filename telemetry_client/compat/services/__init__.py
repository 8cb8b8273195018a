"""The package name of the alerting document; a package `services` later in PYTHONPATH is searched, too."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
