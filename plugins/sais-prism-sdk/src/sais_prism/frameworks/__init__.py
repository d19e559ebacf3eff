"""What scripts written for older frameworks need under today's; nothing here imports a framework by itself."""
