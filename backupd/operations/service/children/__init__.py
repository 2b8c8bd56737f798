"""One job as a process of its own: started, listened to, judged, and ended when it has to be."""
