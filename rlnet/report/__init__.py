"""Reports: terminal tables, figures and HTML pages. Importing this loads neither rich nor matplotlib."""

from rlnet.report.panels import ERROR, VALUE, Panel

__all__ = ["ERROR", "VALUE", "Panel"]
