"""`sansnet ctl`: a client of the control socket."""
