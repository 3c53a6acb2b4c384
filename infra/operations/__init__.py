"""Operations: the status of read models, intake and archive, and the commands of an operator."""
