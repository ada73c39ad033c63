"""`sansnet ctl`, the client of the control socket."""
