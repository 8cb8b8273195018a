"""Events of other services: devices and users that were deleted there."""
