"""What a method is: recipes, RGAL as a transformation of them, their names, the registry and plug-ins."""
