"""Times as they are written everywhere else on this site: sortable, to the second, in UTC."""

DATE_FORMAT = "Y-m-d"
DATETIME_FORMAT = "Y-m-d H:i:s"
